//go:build race

package daemon

// The race detector comes with cgo, and a program with threads of C cannot change the capabilities of all its threads.
// Such a build is for tests.
const mayDropPrivileges = false
