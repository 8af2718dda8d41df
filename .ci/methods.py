"Renew the table of methods that `--help` reads: python .ci/methods.py"
from pathlearn import all # noqa: F401 registers every method
from pathlearn.commands.known import write_table
from pathlearn.learning.methods import METHODS

if __name__ == '__main__': write_table(METHODS.values())
