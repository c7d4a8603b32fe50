"""What can go wrong with the development stack. Every message says what to do."""


class StackError(Exception):
    """The development stack cannot go on; the message is for the person who started it."""


class KafkaUnavailableError(StackError):
    """Kafka's jars or its Java runtime are not on this machine and could not be fetched."""


class JarMismatchError(StackError):
    """The cached jars are not those of the lock file."""


class KafkaStartError(StackError):
    """The broker did not become ready; the message ends with the last lines of its log."""


class ProcessGaveUpError(StackError):
    """A process died quickly too many times in a row and is not started again."""


class DataDirInUseError(StackError):
    """Another stack runs on the same data directory."""


class EndpointsError(StackError):
    """The endpoints file of a stack is missing or cannot be read."""
