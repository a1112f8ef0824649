package probe

import "slices"

// Probes are all built-in probes, in the order in which they are shown.
func Probes() []Probe { return slices.Concat(hostProbes, serviceProbes) }

// hostProbes read the machine itself.
var hostProbes = []Probe{}
