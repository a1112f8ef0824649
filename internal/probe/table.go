package probe

import "slices"

// Probes are all built-in probes, in the order in which they are shown.
func Probes() []Probe { return slices.Concat(hostProbes, serviceProbes) }

// hostProbes read the machine itself.
var hostProbes = []Probe{
	cpuProbe, loadProbe, memoryProbe, vmProbe, pressureProbe,
	filesystemProbe, diskProbe, networkProbe, softnetProbe, tcpProbe, tcpStatesProbe, conntrackProbe,
	processProbe, usersProbe, filesProbe, uptimeProbe, clockProbe, systemdProbe, updatesProbe,
}
