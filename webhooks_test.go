package pawl_test

import "log/slog"

func logTo(o *outside) *slog.Logger {
	return slog.New(slog.NewTextHandler(o, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
