package lab

// Revive starts those of Airflow's services that have ended, as systemd does, and names them. The dag-processor ends by itself
// when the metastore is away.
func (a *Airflow) Revive(l *Lab) (names []string, err error) {
	for _, service := range a.line.services {
		if p := a.Process[service.name]; p == nil || !p.Ended() {
			continue
		}
		p, err := l.Hub().Start(a.spec(service.name, service.args...))
		if err != nil {
			return names, err
		}
		a.Process[service.name] = p
		names = append(names, service.name)
	}
	return names, nil
}
