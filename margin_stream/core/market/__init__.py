"""The market as every partition knows it: instruments, marks, and which quotes become marks."""
