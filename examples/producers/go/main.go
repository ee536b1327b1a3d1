// A producer in Go. In this folder: go run . redis://localhost:6379/0
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	queue  = "llm-chat"
	giveUp = time.Minute
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type job struct {
	ID       string    `json:"id"`
	Type     string    `json:"type"`
	Model    string    `json:"model"`
	Messages []message `json:"messages"`
	Deadline int64     `json:"deadline"` // Unix ms: nobody wants the answer after that
}

type result struct {
	Status  string `json:"status"`
	Content string `json:"content"`
	Error   *struct{ Code, Message string }
}

// ask pushes a job and waits for its result. It listens before it pushes, so that nothing is missed.
func ask(ctx context.Context, client *redis.Client, asked job) (result, error) {
	var answer result
	events := client.Subscribe(ctx, "{"+queue+"}:events")
	defer events.Close()
	if _, err := events.Receive(ctx); err != nil {
		return answer, err
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return answer, err
	}
	if err := client.RPush(ctx, queue, body).Err(); err != nil {
		return answer, err
	}
	for {
		text, err := client.Get(ctx, "{"+queue+"}:result:"+asked.ID).Bytes()
		if err == nil {
			return answer, json.Unmarshal(text, &answer)
		}
		if !errors.Is(err, redis.Nil) {
			return answer, err
		}
		select { // a message says that some job has ended; it may be missed, so look at least once a second
		case <-events.Channel():
		case <-time.After(time.Second):
		case <-ctx.Done():
			return answer, fmt.Errorf("no result of %s in time: llmpool why %s", asked.ID, asked.ID)
		}
	}
}

func run() error {
	url := "redis://localhost:6379/0"
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	client := redis.NewClient(options)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	answer, err := ask(ctx, client, job{
		ID:       rand.Text(),
		Type:     "chat",
		Model:    "gemma3:270m",
		Messages: []message{{Role: "user", Content: "Say hello."}},
		Deadline: time.Now().Add(giveUp).UnixMilli(),
	})
	if err != nil {
		return err
	}
	if answer.Status != "succeeded" {
		return fmt.Errorf("%s: %+v", answer.Status, answer.Error)
	}
	fmt.Println(answer.Content)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
