{{- define "lwp.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "lwp.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "lwp.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "lwp.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "lwp.common" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: llm-worker-pool
{{- end }}

{{- define "lwp.selector" -}}
app.kubernetes.io/name: {{ include "lwp.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lwp.labels" -}}
{{ include "lwp.selector" . }}
{{ include "lwp.common" . }}
{{- end }}

{{- define "lwp.partSelector" -}}
app.kubernetes.io/name: {{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "lwp.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "lwp.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "lwp.workerImage" -}}
{{ .Values.worker.image.repository }}:{{ .Values.worker.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What the operator does in the namespaces that it serves: docs/configuration.md, "Rights of the operator". */}}
{{- define "lwp.rules" -}}
- apiGroups: [llmpool.dev]
  resources: [llmworkerpools]
  verbs: [list, watch]
- apiGroups: [llmpool.dev]
  resources: [llmworkerpools/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- with .Values.operator.redisSecrets }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ toJson . }}
  verbs: [get]
{{- end }}
{{- end }}

{{/* Findings of checkov and kube-score that stay, each with its answer, for every workload of the chart. */}}
{{- define "lwp.answers" -}}
checkov.io/skip1: CKV_K8S_43=images are the user's own and named by tag, a digest can be given in image.tag
checkov.io/skip2: CKV_K8S_15=pullPolicy is a value, as helm create has it
{{- end }}

{{- define "lwp.ignored" -}}
kube-score/ignore: container-image-pull-policy,container-ephemeral-storage-request-and-limit{{ with . }},{{ . }}{{ end }}
{{- end }}
