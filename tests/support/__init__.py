"""The real parts that tests run against: Redis, a Kubernetes control plane, a kubelet stand-in, a scripted Ollama."""
