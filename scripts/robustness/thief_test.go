package main

import "testing"

func TestWhoseCredentialsTheyAre(t *testing.T) {
	for text, want := range map[string]uint64{
		"[duoflow]\nhost=a\nuser=df_airflow_scheduler_e186\npassword=e7\n": 186,
		"[duoflow]\nuser=df_an_e5_job_e12\n":                               12,
		"[duoflow]\nuser=airflow\npassword=user=x_e3\n":                    0,
		"": 0,
	} {
		if got := epochOf([]byte(text)); got != want {
			t.Errorf("%q: epoch %d, want %d", text, got, want)
		}
	}
}
