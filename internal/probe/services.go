package probe

// serviceProbes read what runs on the machine: containers, the guard, servers.
var serviceProbes = []Probe{containersProbe, servicesProbe, guardProbe, nginxProbe, apacheProbe, phpfpmProbe, mariadbProbe, unboundProbe, bindProbe, postgresqlProbe, postfixProbe, mailProbe, sympaProbe, httpProbe, tlsProbe, domainProbe, bbbProbe}
