"""What makes any process well behaved; knows nothing of prompts."""
