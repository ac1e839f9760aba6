"""RouteLLM's checkpoints → bundles, for `pointsman import`.

Each kind is one module with one function, from a source to the folder of a bundle. Nothing that
serves imports this; torch and transformers are only needed where a model is exported.
"""
