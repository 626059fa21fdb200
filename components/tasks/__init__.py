"""Tasks: how a batch becomes losses and metrics, for each kind of stage."""
