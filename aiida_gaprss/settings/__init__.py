"""What all settings are made of: models and their complaints, files, protocols, job and computer settings. No AiiDA."""
