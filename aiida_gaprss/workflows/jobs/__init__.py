"""How work chains deal with their jobs: submitted once, begun again, queued, limited, cleaned up."""
