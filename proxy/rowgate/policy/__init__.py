"""What is allowed: the policy file, its checks, and the immutable snapshot enforced."""
