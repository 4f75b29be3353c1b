//go:build tools

// A module of its own: runc's dependencies differ from containerd's.
package tools

import _ "github.com/opencontainers/runc"
