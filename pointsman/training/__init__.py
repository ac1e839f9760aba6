"""Makes bundles: data sets → embeddings → trained heads → files the scorer serves.

torch and transformers are imported here and nowhere else; nothing that serves imports this.
"""
