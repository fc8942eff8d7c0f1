"""What a potential is judged by. No AiiDA."""
