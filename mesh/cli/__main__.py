"""`python -m mesh.cli` is `seine`."""

from mesh.cli import main

main()
