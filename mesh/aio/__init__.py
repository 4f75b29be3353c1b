"""An asyncio kit that knows nothing about meshes.

duties      what a process does for as long as it lives, side by side
channel     messages with file descriptors between two local processes
doorway     who knocks at a listening Unix socket
process     how a process that an agent has started finds it
lock        the lock that says that a process lives
privileges  given up for good
difference  what differs between two large values that are mostly the same
"""
