//go:build cgo

package daemon

// A program with threads of C cannot change the capabilities of all its threads. The builds that are handed out have
// none; those with the race detector do.
const mayDropPrivileges = false
