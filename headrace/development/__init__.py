"""`headrace dev`: the whole pipeline on one machine, as child processes that end with it."""
