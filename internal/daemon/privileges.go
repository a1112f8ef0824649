//go:build !cgo

package daemon

// mayDropPrivileges says whether this build can give up what root has and a guard does not need.
const mayDropPrivileges = true
