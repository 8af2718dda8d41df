"Scripts of their own that fork a child for each start: the child trains, the parent kills it"

# One process imports fastai, seconds long, and forks a child for each attempt: the child trains, the parent stops it.
RUNNER = '''
import json, os, signal, sys, time, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)
from pathlearn.clusiam import *
from pathlearn import cli

def fork(work, *args):
    pid = os.fork()
    if pid: return pid
    code = 1
    try: code = work(*args) or 0
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code)

def ended(pid, timeout=60): # -> exit code, or minus the signal
    until = time.time() + timeout
    while time.time() < until:
        done,status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        time.sleep(.002)
    os.kill(pid, signal.SIGKILL)
    raise TimeoutError(f'child {pid} did not end')
'''
