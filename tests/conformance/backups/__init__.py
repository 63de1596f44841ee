"""What every vault keeps."""
