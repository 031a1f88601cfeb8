"""Search among known embeddings: galleries, ranked files, pictures of ranked lists."""
