module github.com/pawlrun/pawl/bench/peers/load

go 1.26.0
