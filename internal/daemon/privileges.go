//go:build !race

package daemon

const mayDropPrivileges = true
