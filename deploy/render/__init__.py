"""Everything under deploy/ that is made from mesh/install: `./dev render` writes it, tests compare it.

base/seine.yaml   what `seine install` prints, without the CRDs: for kustomize
helm/seine        the same as a chart, whose values are those of `seine install --set`
"""
