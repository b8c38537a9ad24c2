package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"
)

// work asks the database once a second, and leaves a heartbeat each time that succeeds.
func (a *app) work(stopping context.Context) {
	for {
		attempt, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := a.database.Ping(attempt)
		cancel()
		if err == nil {
			err = os.WriteFile(heartbeatFile, []byte(time.Now().UTC().Format(time.RFC3339)), 0o644)
		}
		if err != nil {
			log.Printf("warn: no heartbeat: %v", err)
		}
		select {
		case <-stopping.Done():
			return
		case <-time.After(heartbeatInterval):
		}
	}
}

func heartbeatAge() error {
	file, err := os.Stat(heartbeatFile)
	if err != nil {
		return err
	}
	if age := time.Since(file.ModTime()); age > 15*heartbeatInterval {
		return fmt.Errorf("the last heartbeat is %s old", age.Round(time.Second))
	}
	return nil
}
