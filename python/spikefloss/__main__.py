"""python -m spikefloss ...: the program, in place of this process."""
import os
import sys

from .runs import program

os.execv(program(), [program(), *sys.argv[1:]])
