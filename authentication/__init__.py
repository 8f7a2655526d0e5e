"""From a reference photograph and a probe to a decision: templates, evidence, live sessions, and the command line."""
