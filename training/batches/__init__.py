"""From crops on disk to an augmented batch of P identities x K crops."""
