"""The command, the Python client (`headrace.client`), and the development stack."""
