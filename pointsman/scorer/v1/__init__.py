"""Generated from protos/pointsman/scorer/v1; never edited."""
