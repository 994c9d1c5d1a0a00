"""What answers a prompt: a checkpoint of transformers, an endpoint, or a script."""
