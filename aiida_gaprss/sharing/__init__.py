"""What a stranger gets of a potential or a campaign."""
