package mcp

import "time"

// BeImpatient shortens what processes are given. It is called before any test.
func BeImpatient() { writeTimeout, pingTimeout = 2*time.Second, 2*time.Second }
