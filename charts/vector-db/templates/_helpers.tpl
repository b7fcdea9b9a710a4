{{- define "vector-db.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/*
Name of every object. At most 52 characters, so that the suffixes of pods and Services still fit; a
longer one is cut and told apart by a hash. A Service's name cannot start with a digit, a release's can.
*/}}
{{- define "vector-db.fullname" -}}
{{- $name := include "vector-db.name" . -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- if regexMatch "^[0-9]" $full -}}
{{- $full = printf "r-%s" $full -}}
{{- end -}}
{{- if gt (len $full) 52 -}}
{{- $full = printf "%s-%s" ($full | trunc 43 | trimSuffix "-") ($full | sha256sum | trunc 8) -}}
{{- end -}}
{{- $full -}}
{{- end }}

{{/* What Services and workloads select by; never changes over a release's life. */}}
{{- define "vector-db.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vector-db.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: vector-db
{{- end }}

{{/* Labels of everything but the test pod, whose component must not be selected by the Service. */}}
{{- define "vector-db.labels" -}}
{{ include "vector-db.selectorLabels" . }}
{{ include "vector-db.commonLabels" . }}
{{- end }}

{{- define "vector-db.commonLabels" -}}
app.kubernetes.io/version: {{ include "vector-db.version" . | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "vector-db.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "vector-db.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* An image as the container names it: a digest wins over the tag. Takes {repository, tag, digest}. */}}
{{- define "vector-db.imageReference" -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
{{- end }}

{{/* Pod security, as the `restricted` level wants it. */}}
{{- define "vector-db.podSecurityContext" -}}
runAsNonRoot: true
{{- if hasKey .Values.securityContext "runAsUser" }}
runAsUser: {{ .Values.securityContext.runAsUser | int64 }}
{{- end }}
{{- if hasKey .Values.securityContext "runAsGroup" }}
runAsGroup: {{ .Values.securityContext.runAsGroup | int64 }}
{{- end }}
{{- if hasKey .Values.securityContext "fsGroup" }}
fsGroup: {{ .Values.securityContext.fsGroup | int64 }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Container security, as the `restricted` level wants it. */}}
{{- define "vector-db.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .Values.securityContext.readOnlyRootFilesystem }}
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where and how the pod is scheduled. */}}
{{- define "vector-db.scheduling" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "vector-db.version" -}}
{{- (get .Values .Values.engine).image.tag -}}
{{- end }}

{{/* Port that clients use and that the endpoint names. */}}
{{- define "vector-db.clientPort" -}}
{{- eq .Values.engine "milvus" | ternary 19530 6333 -}}
{{- end }}

{{/* Refuses values that contradict each other, which a schema cannot say. */}}
{{- define "vector-db.validate" -}}
{{- if and .Values.auth.existingSecret (eq .Values.engine "milvus") -}}
{{- fail (printf "auth.existingSecret is %q but engine is milvus: an API key works with engine qdrant only; leave auth.existingSecret empty" .Values.auth.existingSecret) -}}
{{- end -}}
{{- if and .Values.persistence.storageClassName (not .Values.persistence.enabled) -}}
{{- fail (printf "persistence.storageClassName is %q but persistence.enabled is false: enable persistence, or leave the storage class empty" .Values.persistence.storageClassName) -}}
{{- end -}}
{{- end }}
