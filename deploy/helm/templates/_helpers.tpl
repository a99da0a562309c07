{{- /* A service's name begins with a letter and has no dots; a release's may be otherwise. */ -}}
{{- define "orchestrator.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) | replace "." "-" }}
{{- ternary (printf "release-%s" $name) $name (regexMatch "^[0-9]" $name) | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "orchestrator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "orchestrator.labels" -}}
{{ include "orchestrator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{- /* Releases of one name in two namespaces are two installations. */ -}}
{{- define "orchestrator.job" -}}
{{- .Values.serviceMonitor.job | default (printf "%s/%s" .Release.Namespace (include "orchestrator.name" .)) }}
{{- end }}

{{- define "orchestrator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "orchestrator.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "orchestrator.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "orchestrator.registry" -}}
{{- .Values.registry.existingConfigMap | default (printf "%s-registry" (include "orchestrator.name" .)) }}
{{- end }}

{{- define "orchestrator.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* kubelet has no certificate to show: where one is asked for, it may only look whether the port is open. */ -}}
{{- define "orchestrator.probe" -}}
{{- if .context.Values.tls.clientCA -}}
tcpSocket: {port: http}
{{- else -}}
httpGet: {path: {{ .path }}, port: http, scheme: {{ ternary "HTTPS" "HTTP" (ne .context.Values.tls.existingSecret "") }}}
{{- end }}
{{- end }}

{{- /* A scalar as text. Numbers of values are floating-point here, of which a million would be 1e+06. */ -}}
{{- define "orchestrator.text" -}}
{{- if and (kindIs "float64" .) (eq . (float64 (int64 .))) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{- /* Labels and the like: whatever was written, Kubernetes takes texts. */ -}}
{{- define "orchestrator.texts" -}}
{{- $texts := dict }}
{{- range $name, $value := . }}{{- $_ := set $texts $name (include "orchestrator.text" $value) }}{{- end }}
{{- toYaml $texts }}
{{- end }}
