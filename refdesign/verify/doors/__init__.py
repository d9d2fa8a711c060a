"""The doors: how an implementation under test is reached, as a callable, through a pipe, or by files."""
