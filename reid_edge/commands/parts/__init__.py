"""What several commands share: choices, options, help texts and the console."""
