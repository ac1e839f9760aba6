"""Generated from protos/pointsman/upstream/v1; never edited."""
