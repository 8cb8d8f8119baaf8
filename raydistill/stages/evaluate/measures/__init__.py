"""What an evaluation measures besides the accuracy of networks from scratch."""
