//go:build tools

// A module of its own: no cluster is started from it, only charts are judged by it.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
