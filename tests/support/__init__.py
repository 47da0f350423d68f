"""What tests share: free places, real processes, and clients that look at bytes."""
