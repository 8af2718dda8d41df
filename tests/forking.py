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

def wait_until(seen, child, timeout=120): # a child that ends before, or hangs, fails the test and does not stop it for ever
    until = time.time() + timeout
    while not seen():
        done,status = os.waitpid(child, os.WNOHANG)
        if done: raise ChildProcessError(f'child {child} ended with {os.waitstatus_to_exitcode(status)} before it was to be stopped')
        if time.time() > until: raise TimeoutError(f'child {child} did not get there')
        time.sleep(.002)
'''
