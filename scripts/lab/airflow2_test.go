//go:build airflow2

package lab_test

import "testing"

// TestClusterTakesAirflow2Over needs scripts/setup airflow2 and two minutes.
func TestClusterTakesAirflow2Over(t *testing.T) { takesAirflowOver(t, 2) }
