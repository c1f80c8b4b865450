"""Protobuf field numbers of the kinds kubectl sends so, from the v1.34 types.

Made by `tests/kubectl/make_protobuf_table.py`. One message an entry: its name, then its fields
as `json-name:number` and a type: nothing for strings, `#` integers, `?` booleans, `@` bytes,
`.M` a message, `*` before it a list, `%` a map from strings; `^` keeps zero values; the name
`!` is a message whose fields stand in the object itself.
"""

from typing import Final

TABLE: Final = """
metav1.DeleteOptions gracePeriodSeconds:1#^ preconditions:2.metav1.Preconditions^
  orphanDependents:3?^ propagationPolicy:4^ dryRun:5*
  ignoreStoreReadErrorWithClusterBreakingPotential:6?^
metav1.Preconditions uid:1^ resourceVersion:2^
corev1.Namespace metadata:1.metav1.ObjectMeta spec:2.corev1.NamespaceSpec
  status:3.corev1.NamespaceStatus
metav1.ObjectMeta name:1 generateName:2 namespace:3 selfLink:4 uid:5 resourceVersion:6
  generation:7# creationTimestamp:8.metav1.Time deletionTimestamp:9.metav1.Time^
  deletionGracePeriodSeconds:10#^ labels:11% annotations:12%
  ownerReferences:13*.metav1.OwnerReference finalizers:14*
  managedFields:17*.metav1.ManagedFieldsEntry
metav1.OwnerReference apiVersion:5^ kind:1^ name:3^ uid:4^ controller:6?^ blockOwnerDeletion:7?^
metav1.ManagedFieldsEntry manager:1 operation:2 apiVersion:3 time:4.metav1.Time^ fieldsType:6
  fieldsV1:7.metav1.FieldsV1^ subresource:8
metav1.FieldsV1 -:1@^
corev1.NamespaceSpec finalizers:1*
corev1.NamespaceStatus phase:1 conditions:2*.corev1.NamespaceCondition
corev1.NamespaceCondition type:1^ status:2^ lastTransitionTime:4.metav1.Time reason:5 message:6
corev1.ConfigMap metadata:1.metav1.ObjectMeta immutable:4?^ data:2% binaryData:3%@
corev1.Secret metadata:1.metav1.ObjectMeta immutable:5?^ data:2%@ stringData:4% type:3
corev1.ServiceAccount metadata:1.metav1.ObjectMeta secrets:2*.corev1.ObjectReference
  imagePullSecrets:3*.corev1.LocalObjectReference automountServiceAccountToken:4?^
corev1.ObjectReference kind:1 namespace:2 name:3 uid:4 apiVersion:5 resourceVersion:6
  fieldPath:7
corev1.LocalObjectReference name:1
corev1.Service metadata:1.metav1.ObjectMeta spec:2.corev1.ServiceSpec
  status:3.corev1.ServiceStatus
corev1.ServiceSpec ports:1*.corev1.ServicePort selector:2% clusterIP:3 clusterIPs:18* type:4
  externalIPs:5* sessionAffinity:7 loadBalancerIP:8 loadBalancerSourceRanges:9* externalName:10
  externalTrafficPolicy:11 healthCheckNodePort:12# publishNotReadyAddresses:13?
  sessionAffinityConfig:14.corev1.SessionAffinityConfig^ ipFamilies:19* ipFamilyPolicy:17^
  allocateLoadBalancerNodePorts:20?^ loadBalancerClass:21^ internalTrafficPolicy:22^
  trafficDistribution:23^
corev1.ServicePort name:1 protocol:2 appProtocol:6^ port:3#^ targetPort:4.IntOrString
  nodePort:5#
corev1.SessionAffinityConfig clientIP:1.corev1.ClientIPConfig^
corev1.ClientIPConfig timeoutSeconds:1#^
corev1.ServiceStatus loadBalancer:1.corev1.LoadBalancerStatus conditions:2*.metav1.Condition
corev1.LoadBalancerStatus ingress:1*.corev1.LoadBalancerIngress
corev1.LoadBalancerIngress ip:1 hostname:2 ipMode:3^ ports:4*.corev1.PortStatus
corev1.PortStatus port:1#^ protocol:2^ error:3^
metav1.Condition type:1^ status:2^ observedGeneration:3# lastTransitionTime:4.metav1.Time^
  reason:5^ message:6^
corev1.Pod metadata:1.metav1.ObjectMeta spec:2.corev1.PodSpec status:3.corev1.PodStatus
corev1.PodSpec volumes:1*.corev1.Volume initContainers:20*.corev1.Container
  containers:2*.corev1.Container^ ephemeralContainers:34*.corev1.EphemeralContainer
  restartPolicy:3 terminationGracePeriodSeconds:4#^ activeDeadlineSeconds:5#^ dnsPolicy:6
  nodeSelector:7% serviceAccountName:8 serviceAccount:9 automountServiceAccountToken:21?^
  nodeName:10 hostNetwork:11? hostPID:12? hostIPC:13? shareProcessNamespace:27?^
  securityContext:14.corev1.PodSecurityContext^ imagePullSecrets:15*.corev1.LocalObjectReference
  hostname:16 subdomain:17 affinity:18.corev1.Affinity^ schedulerName:19
  tolerations:22*.corev1.Toleration hostAliases:23*.corev1.HostAlias priorityClassName:24
  priority:25#^ dnsConfig:26.corev1.PodDNSConfig^ readinessGates:28*.corev1.PodReadinessGate
  runtimeClassName:29^ enableServiceLinks:30?^ preemptionPolicy:31^ overhead:32.Quantity
  topologySpreadConstraints:33*.corev1.TopologySpreadConstraint setHostnameAsFQDN:35?^
  os:36.corev1.PodOS^ hostUsers:37?^ schedulingGates:38*.corev1.PodSchedulingGate
  resourceClaims:39*.corev1.PodResourceClaim resources:40.corev1.ResourceRequirements^
  hostnameOverride:41^
corev1.Volume name:1^ !:2.corev1.VolumeSource
corev1.VolumeSource hostPath:1.corev1.HostPathVolumeSource^
  emptyDir:2.corev1.EmptyDirVolumeSource^
  gcePersistentDisk:3.corev1.GCEPersistentDiskVolumeSource^
  awsElasticBlockStore:4.corev1.AWSElasticBlockStoreVolumeSource^
  gitRepo:5.corev1.GitRepoVolumeSource^ secret:6.corev1.SecretVolumeSource^
  nfs:7.corev1.NFSVolumeSource^ iscsi:8.corev1.ISCSIVolumeSource^
  glusterfs:9.corev1.GlusterfsVolumeSource^
  persistentVolumeClaim:10.corev1.PersistentVolumeClaimVolumeSource^
  rbd:11.corev1.RBDVolumeSource^ flexVolume:12.corev1.FlexVolumeSource^
  cinder:13.corev1.CinderVolumeSource^ cephfs:14.corev1.CephFSVolumeSource^
  flocker:15.corev1.FlockerVolumeSource^ downwardAPI:16.corev1.DownwardAPIVolumeSource^
  fc:17.corev1.FCVolumeSource^ azureFile:18.corev1.AzureFileVolumeSource^
  configMap:19.corev1.ConfigMapVolumeSource^
  vsphereVolume:20.corev1.VsphereVirtualDiskVolumeSource^ quobyte:21.corev1.QuobyteVolumeSource^
  azureDisk:22.corev1.AzureDiskVolumeSource^
  photonPersistentDisk:23.corev1.PhotonPersistentDiskVolumeSource^
  projected:26.corev1.ProjectedVolumeSource^ portworxVolume:24.corev1.PortworxVolumeSource^
  scaleIO:25.corev1.ScaleIOVolumeSource^ storageos:27.corev1.StorageOSVolumeSource^
  csi:28.corev1.CSIVolumeSource^ ephemeral:29.corev1.EphemeralVolumeSource^
  image:30.corev1.ImageVolumeSource^
corev1.HostPathVolumeSource path:1^ type:2^
corev1.EmptyDirVolumeSource medium:1 sizeLimit:2.Quantity^
corev1.GCEPersistentDiskVolumeSource pdName:1^ fsType:2 partition:3# readOnly:4?
corev1.AWSElasticBlockStoreVolumeSource volumeID:1^ fsType:2 partition:3# readOnly:4?
corev1.GitRepoVolumeSource repository:1^ revision:2 directory:3
corev1.SecretVolumeSource secretName:1 items:2*.corev1.KeyToPath defaultMode:3#^ optional:4?^
corev1.KeyToPath key:1^ path:2^ mode:3#^
corev1.NFSVolumeSource server:1^ path:2^ readOnly:3?
corev1.ISCSIVolumeSource targetPortal:1^ iqn:2^ lun:3#^ iscsiInterface:4 fsType:5 readOnly:6?
  portals:7* chapAuthDiscovery:8? chapAuthSession:11? secretRef:10.corev1.LocalObjectReference^
  initiatorName:12^
corev1.GlusterfsVolumeSource endpoints:1^ path:2^ readOnly:3?
corev1.PersistentVolumeClaimVolumeSource claimName:1^ readOnly:2?
corev1.RBDVolumeSource monitors:1*^ image:2^ fsType:3 pool:4 user:5 keyring:6
  secretRef:7.corev1.LocalObjectReference^ readOnly:8?
corev1.FlexVolumeSource driver:1^ fsType:2 secretRef:3.corev1.LocalObjectReference^ readOnly:4?
  options:5%
corev1.CinderVolumeSource volumeID:1^ fsType:2 readOnly:3?
  secretRef:4.corev1.LocalObjectReference^
corev1.CephFSVolumeSource monitors:1*^ path:2 user:3 secretFile:4
  secretRef:5.corev1.LocalObjectReference^ readOnly:6?
corev1.FlockerVolumeSource datasetName:1 datasetUUID:2
corev1.DownwardAPIVolumeSource items:1*.corev1.DownwardAPIVolumeFile defaultMode:2#^
corev1.DownwardAPIVolumeFile path:1^ fieldRef:2.corev1.ObjectFieldSelector^
  resourceFieldRef:3.corev1.ResourceFieldSelector^ mode:4#^
corev1.ObjectFieldSelector apiVersion:1 fieldPath:2^
corev1.ResourceFieldSelector containerName:1 resource:2^ divisor:3.Quantity
corev1.FCVolumeSource targetWWNs:1* lun:2#^ fsType:3 readOnly:4? wwids:5*
corev1.AzureFileVolumeSource secretName:1^ shareName:2^ readOnly:3?
corev1.ConfigMapVolumeSource !:1.corev1.LocalObjectReference items:2*.corev1.KeyToPath
  defaultMode:3#^ optional:4?^
corev1.VsphereVirtualDiskVolumeSource volumePath:1^ fsType:2 storagePolicyName:3
  storagePolicyID:4
corev1.QuobyteVolumeSource registry:1^ volume:2^ readOnly:3? user:4 group:5 tenant:6
corev1.AzureDiskVolumeSource diskName:1^ diskURI:2^ cachingMode:3^ fsType:4^ readOnly:5?^
  kind:6^
corev1.PhotonPersistentDiskVolumeSource pdID:1^ fsType:2
corev1.ProjectedVolumeSource sources:1*.corev1.VolumeProjection^ defaultMode:2#^
corev1.VolumeProjection secret:1.corev1.SecretProjection^
  downwardAPI:2.corev1.DownwardAPIProjection^ configMap:3.corev1.ConfigMapProjection^
  serviceAccountToken:4.corev1.ServiceAccountTokenProjection^
  clusterTrustBundle:5.corev1.ClusterTrustBundleProjection^
  podCertificate:6.corev1.PodCertificateProjection^
corev1.SecretProjection !:1.corev1.LocalObjectReference items:2*.corev1.KeyToPath optional:4?^
corev1.DownwardAPIProjection items:1*.corev1.DownwardAPIVolumeFile
corev1.ConfigMapProjection !:1.corev1.LocalObjectReference items:2*.corev1.KeyToPath
  optional:4?^
corev1.ServiceAccountTokenProjection audience:1 expirationSeconds:2#^ path:3^
corev1.ClusterTrustBundleProjection name:1^ signerName:2^ labelSelector:3.metav1.LabelSelector^
  optional:5?^ path:4^
metav1.LabelSelector matchLabels:1% matchExpressions:2*.metav1.LabelSelectorRequirement
metav1.LabelSelectorRequirement key:1^ operator:2^ values:3*
corev1.PodCertificateProjection signerName:1 keyType:2 maxExpirationSeconds:3#^
  credentialBundlePath:4 keyPath:5 certificateChainPath:6
corev1.PortworxVolumeSource volumeID:1^ fsType:2 readOnly:3?
corev1.ScaleIOVolumeSource gateway:1^ system:2^ secretRef:3.corev1.LocalObjectReference^
  sslEnabled:4? protectionDomain:5 storagePool:6 storageMode:7 volumeName:8 fsType:9 readOnly:10?
corev1.StorageOSVolumeSource volumeName:1 volumeNamespace:2 fsType:3 readOnly:4?
  secretRef:5.corev1.LocalObjectReference^
corev1.CSIVolumeSource driver:1^ readOnly:2?^ fsType:3^ volumeAttributes:4%
  nodePublishSecretRef:5.corev1.LocalObjectReference^
corev1.EphemeralVolumeSource volumeClaimTemplate:1.corev1.PersistentVolumeClaimTemplate^
corev1.PersistentVolumeClaimTemplate metadata:1.metav1.ObjectMeta
  spec:2.corev1.PersistentVolumeClaimSpec^
corev1.PersistentVolumeClaimSpec accessModes:1* selector:4.metav1.LabelSelector^
  resources:2.corev1.VolumeResourceRequirements volumeName:3 storageClassName:5^ volumeMode:6^
  dataSource:7.corev1.TypedLocalObjectReference^ dataSourceRef:8.corev1.TypedObjectReference^
  volumeAttributesClassName:9^
corev1.VolumeResourceRequirements limits:1.Quantity requests:2.Quantity
corev1.TypedLocalObjectReference apiGroup:1^ kind:2^ name:3^
corev1.TypedObjectReference apiGroup:1^ kind:2^ name:3^ namespace:4^
corev1.ImageVolumeSource reference:1 pullPolicy:2
corev1.Container name:1^ image:2 command:3* args:4* workingDir:5 ports:6*.corev1.ContainerPort
  envFrom:19*.corev1.EnvFromSource env:7*.corev1.EnvVar resources:8.corev1.ResourceRequirements
  resizePolicy:23*.corev1.ContainerResizePolicy restartPolicy:24^
  restartPolicyRules:25*.corev1.ContainerRestartRule volumeMounts:9*.corev1.VolumeMount
  volumeDevices:21*.corev1.VolumeDevice livenessProbe:10.corev1.Probe^
  readinessProbe:11.corev1.Probe^ startupProbe:22.corev1.Probe^ lifecycle:12.corev1.Lifecycle^
  terminationMessagePath:13 terminationMessagePolicy:20 imagePullPolicy:14
  securityContext:15.corev1.SecurityContext^ stdin:16? stdinOnce:17? tty:18?
corev1.ContainerPort name:1 hostPort:2# containerPort:3#^ protocol:4 hostIP:5
corev1.EnvFromSource prefix:1 configMapRef:2.corev1.ConfigMapEnvSource^
  secretRef:3.corev1.SecretEnvSource^
corev1.ConfigMapEnvSource !:1.corev1.LocalObjectReference optional:2?^
corev1.SecretEnvSource !:1.corev1.LocalObjectReference optional:2?^
corev1.EnvVar name:1^ value:2 valueFrom:3.corev1.EnvVarSource^
corev1.EnvVarSource fieldRef:1.corev1.ObjectFieldSelector^
  resourceFieldRef:2.corev1.ResourceFieldSelector^ configMapKeyRef:3.corev1.ConfigMapKeySelector^
  secretKeyRef:4.corev1.SecretKeySelector^ fileKeyRef:5.corev1.FileKeySelector^
corev1.ConfigMapKeySelector !:1.corev1.LocalObjectReference key:2^ optional:3?^
corev1.SecretKeySelector !:1.corev1.LocalObjectReference key:2^ optional:3?^
corev1.FileKeySelector volumeName:1^ path:2^ key:3^ optional:4?^
corev1.ResourceRequirements limits:1.Quantity requests:2.Quantity claims:3*.corev1.ResourceClaim
corev1.ResourceClaim name:1^ request:2
corev1.ContainerResizePolicy resourceName:1^ restartPolicy:2^
corev1.ContainerRestartRule action:1 exitCodes:2.corev1.ContainerRestartRuleOnExitCodes^
corev1.ContainerRestartRuleOnExitCodes operator:1 values:2*#
corev1.VolumeMount name:1^ readOnly:2? recursiveReadOnly:7^ mountPath:3^ subPath:4
  mountPropagation:5^ subPathExpr:6
corev1.VolumeDevice name:1^ devicePath:2^
corev1.Probe !:1.corev1.ProbeHandler initialDelaySeconds:2# timeoutSeconds:3# periodSeconds:4#
  successThreshold:5# failureThreshold:6# terminationGracePeriodSeconds:7#^
corev1.ProbeHandler exec:1.corev1.ExecAction^ httpGet:2.corev1.HTTPGetAction^
  tcpSocket:3.corev1.TCPSocketAction^ grpc:4.corev1.GRPCAction^
corev1.ExecAction command:1*
corev1.HTTPGetAction path:1 port:2.IntOrString^ host:3 scheme:4 httpHeaders:5*.corev1.HTTPHeader
corev1.HTTPHeader name:1^ value:2^
corev1.TCPSocketAction port:1.IntOrString^ host:2
corev1.GRPCAction port:1#^ service:2^
corev1.Lifecycle postStart:1.corev1.LifecycleHandler^ preStop:2.corev1.LifecycleHandler^
  stopSignal:3^
corev1.LifecycleHandler exec:1.corev1.ExecAction^ httpGet:2.corev1.HTTPGetAction^
  tcpSocket:3.corev1.TCPSocketAction^ sleep:4.corev1.SleepAction^
corev1.SleepAction seconds:1#^
corev1.SecurityContext capabilities:1.corev1.Capabilities^ privileged:2?^
  seLinuxOptions:3.corev1.SELinuxOptions^ windowsOptions:10.corev1.WindowsSecurityContextOptions^
  runAsUser:4#^ runAsGroup:8#^ runAsNonRoot:5?^ readOnlyRootFilesystem:6?^
  allowPrivilegeEscalation:7?^ procMount:9^ seccompProfile:11.corev1.SeccompProfile^
  appArmorProfile:12.corev1.AppArmorProfile^
corev1.Capabilities add:1* drop:2*
corev1.SELinuxOptions user:1 role:2 type:3 level:4
corev1.WindowsSecurityContextOptions gmsaCredentialSpecName:1^ gmsaCredentialSpec:2^
  runAsUserName:3^ hostProcess:4?^
corev1.SeccompProfile type:1^ localhostProfile:2^
corev1.AppArmorProfile type:1^ localhostProfile:2^
corev1.EphemeralContainer !:1.corev1.EphemeralContainerCommon targetContainerName:2
corev1.EphemeralContainerCommon name:1^ image:2 command:3* args:4* workingDir:5
  ports:6*.corev1.ContainerPort envFrom:19*.corev1.EnvFromSource env:7*.corev1.EnvVar
  resources:8.corev1.ResourceRequirements resizePolicy:23*.corev1.ContainerResizePolicy
  restartPolicy:24^ restartPolicyRules:25*.corev1.ContainerRestartRule
  volumeMounts:9*.corev1.VolumeMount volumeDevices:21*.corev1.VolumeDevice
  livenessProbe:10.corev1.Probe^ readinessProbe:11.corev1.Probe^ startupProbe:22.corev1.Probe^
  lifecycle:12.corev1.Lifecycle^ terminationMessagePath:13 terminationMessagePolicy:20
  imagePullPolicy:14 securityContext:15.corev1.SecurityContext^ stdin:16? stdinOnce:17? tty:18?
corev1.PodSecurityContext seLinuxOptions:1.corev1.SELinuxOptions^
  windowsOptions:8.corev1.WindowsSecurityContextOptions^ runAsUser:2#^ runAsGroup:6#^
  runAsNonRoot:3?^ supplementalGroups:4*# supplementalGroupsPolicy:12^ fsGroup:5#^
  sysctls:7*.corev1.Sysctl fsGroupChangePolicy:9^ seccompProfile:10.corev1.SeccompProfile^
  appArmorProfile:11.corev1.AppArmorProfile^ seLinuxChangePolicy:13^
corev1.Sysctl name:1^ value:2^
corev1.Affinity nodeAffinity:1.corev1.NodeAffinity^ podAffinity:2.corev1.PodAffinity^
  podAntiAffinity:3.corev1.PodAntiAffinity^
corev1.NodeAffinity requiredDuringSchedulingIgnoredDuringExecution:1.corev1.NodeSelector^
  preferredDuringSchedulingIgnoredDuringExecution:2*.corev1.PreferredSchedulingTerm
corev1.NodeSelector nodeSelectorTerms:1*.corev1.NodeSelectorTerm^
corev1.NodeSelectorTerm matchExpressions:1*.corev1.NodeSelectorRequirement
  matchFields:2*.corev1.NodeSelectorRequirement
corev1.NodeSelectorRequirement key:1^ operator:2^ values:3*
corev1.PreferredSchedulingTerm weight:1#^ preference:2.corev1.NodeSelectorTerm^
corev1.PodAffinity requiredDuringSchedulingIgnoredDuringExecution:1*.corev1.PodAffinityTerm
  preferredDuringSchedulingIgnoredDuringExecution:2*.corev1.WeightedPodAffinityTerm
corev1.PodAffinityTerm labelSelector:1.metav1.LabelSelector^ namespaces:2* topologyKey:3^
  namespaceSelector:4.metav1.LabelSelector^ matchLabelKeys:5* mismatchLabelKeys:6*
corev1.WeightedPodAffinityTerm weight:1#^ podAffinityTerm:2.corev1.PodAffinityTerm^
corev1.PodAntiAffinity requiredDuringSchedulingIgnoredDuringExecution:1*.corev1.PodAffinityTerm
  preferredDuringSchedulingIgnoredDuringExecution:2*.corev1.WeightedPodAffinityTerm
corev1.Toleration key:1 operator:2 value:3 effect:4 tolerationSeconds:5#^
corev1.HostAlias ip:1^ hostnames:2*
corev1.PodDNSConfig nameservers:1* searches:2* options:3*.corev1.PodDNSConfigOption
corev1.PodDNSConfigOption name:1 value:2^
corev1.PodReadinessGate conditionType:1^
corev1.TopologySpreadConstraint maxSkew:1#^ topologyKey:2^ whenUnsatisfiable:3^
  labelSelector:4.metav1.LabelSelector^ minDomains:5#^ nodeAffinityPolicy:6^ nodeTaintsPolicy:7^
  matchLabelKeys:8*
corev1.PodOS name:1^
corev1.PodSchedulingGate name:1^
corev1.PodResourceClaim name:1^ resourceClaimName:3^ resourceClaimTemplateName:4^
corev1.PodStatus observedGeneration:17# phase:1 conditions:2*.corev1.PodCondition message:3
  reason:4 nominatedNodeName:11 hostIP:5 hostIPs:16*.corev1.HostIP podIP:6 podIPs:12*.corev1.PodIP
  startTime:7.metav1.Time^ initContainerStatuses:10*.corev1.ContainerStatus
  containerStatuses:8*.corev1.ContainerStatus qosClass:9
  ephemeralContainerStatuses:13*.corev1.ContainerStatus resize:14
  resourceClaimStatuses:15*.corev1.PodResourceClaimStatus
  extendedResourceClaimStatus:18.corev1.PodExtendedResourceClaimStatus^
corev1.PodCondition type:1^ observedGeneration:7# status:2^ lastProbeTime:3.metav1.Time
  lastTransitionTime:4.metav1.Time reason:5 message:6
corev1.HostIP ip:1^
corev1.PodIP ip:1^
corev1.ContainerStatus name:1^ state:2.corev1.ContainerState lastState:3.corev1.ContainerState
  ready:4?^ restartCount:5#^ image:6^ imageID:7^ containerID:8 started:9?^
  allocatedResources:10.Quantity resources:11.corev1.ResourceRequirements^
  volumeMounts:12*.corev1.VolumeMountStatus user:13.corev1.ContainerUser^
  allocatedResourcesStatus:14*.corev1.ResourceStatus stopSignal:15^
corev1.ContainerState waiting:1.corev1.ContainerStateWaiting^
  running:2.corev1.ContainerStateRunning^ terminated:3.corev1.ContainerStateTerminated^
corev1.ContainerStateWaiting reason:1 message:2
corev1.ContainerStateRunning startedAt:1.metav1.Time
corev1.ContainerStateTerminated exitCode:1#^ signal:2# reason:3 message:4
  startedAt:5.metav1.Time finishedAt:6.metav1.Time containerID:7
corev1.VolumeMountStatus name:1^ mountPath:2^ readOnly:3? recursiveReadOnly:4^
corev1.ContainerUser linux:1.corev1.LinuxContainerUser^
corev1.LinuxContainerUser uid:1#^ gid:2#^ supplementalGroups:3*#
corev1.ResourceStatus name:1^ resources:2*.corev1.ResourceHealth
corev1.ResourceHealth resourceID:1^ health:2
corev1.PodResourceClaimStatus name:1^ resourceClaimName:2^
corev1.PodExtendedResourceClaimStatus
  requestMappings:1*.corev1.ContainerExtendedResourceRequest^ resourceClaimName:2^
corev1.ContainerExtendedResourceRequest containerName:1^ resourceName:2^ requestName:3^
corev1.Event metadata:1.metav1.ObjectMeta^ involvedObject:2.corev1.ObjectReference^ reason:3
  message:4 source:5.corev1.EventSource firstTimestamp:6.metav1.Time lastTimestamp:7.metav1.Time
  count:8# type:9 eventTime:10.metav1.MicroTime series:11.corev1.EventSeries^ action:12
  related:13.corev1.ObjectReference^ reportingComponent:14^ reportingInstance:15^
corev1.EventSource component:1 host:2
corev1.EventSeries count:1# lastObservedTime:2.metav1.MicroTime
appsv1.Deployment metadata:1.metav1.ObjectMeta spec:2.appsv1.DeploymentSpec
  status:3.appsv1.DeploymentStatus
appsv1.DeploymentSpec replicas:1#^ selector:2.metav1.LabelSelector^
  template:3.corev1.PodTemplateSpec^ strategy:4.appsv1.DeploymentStrategy minReadySeconds:5#
  revisionHistoryLimit:6#^ paused:7? progressDeadlineSeconds:9#^
corev1.PodTemplateSpec metadata:1.metav1.ObjectMeta spec:2.corev1.PodSpec
appsv1.DeploymentStrategy type:1 rollingUpdate:2.appsv1.RollingUpdateDeployment^
appsv1.RollingUpdateDeployment maxUnavailable:1.IntOrString^ maxSurge:2.IntOrString^
appsv1.DeploymentStatus observedGeneration:1# replicas:2# updatedReplicas:3# readyReplicas:7#
  availableReplicas:4# unavailableReplicas:5# terminatingReplicas:9#^
  conditions:6*.appsv1.DeploymentCondition collisionCount:8#^
appsv1.DeploymentCondition type:1^ status:2^ lastUpdateTime:6.metav1.Time
  lastTransitionTime:7.metav1.Time reason:4 message:5
appsv1.ReplicaSet metadata:1.metav1.ObjectMeta spec:2.appsv1.ReplicaSetSpec
  status:3.appsv1.ReplicaSetStatus
appsv1.ReplicaSetSpec replicas:1#^ minReadySeconds:4# selector:2.metav1.LabelSelector^
  template:3.corev1.PodTemplateSpec
appsv1.ReplicaSetStatus replicas:1#^ fullyLabeledReplicas:2# readyReplicas:4#
  availableReplicas:5# terminatingReplicas:7#^ observedGeneration:3#
  conditions:6*.appsv1.ReplicaSetCondition
appsv1.ReplicaSetCondition type:1^ status:2^ lastTransitionTime:3.metav1.Time reason:4 message:5
appsv1.DaemonSet metadata:1.metav1.ObjectMeta spec:2.appsv1.DaemonSetSpec
  status:3.appsv1.DaemonSetStatus
appsv1.DaemonSetSpec selector:1.metav1.LabelSelector^ template:2.corev1.PodTemplateSpec^
  updateStrategy:3.appsv1.DaemonSetUpdateStrategy minReadySeconds:4# revisionHistoryLimit:6#^
appsv1.DaemonSetUpdateStrategy type:1 rollingUpdate:2.appsv1.RollingUpdateDaemonSet^
appsv1.RollingUpdateDaemonSet maxUnavailable:1.IntOrString^ maxSurge:2.IntOrString^
appsv1.DaemonSetStatus currentNumberScheduled:1#^ numberMisscheduled:2#^
  desiredNumberScheduled:3#^ numberReady:4#^ observedGeneration:5# updatedNumberScheduled:6#
  numberAvailable:7# numberUnavailable:8# collisionCount:9#^
  conditions:10*.appsv1.DaemonSetCondition
appsv1.DaemonSetCondition type:1^ status:2^ lastTransitionTime:3.metav1.Time reason:4 message:5
batchv1.Job metadata:1.metav1.ObjectMeta spec:2.batchv1.JobSpec status:3.batchv1.JobStatus
batchv1.JobSpec parallelism:1#^ completions:2#^ activeDeadlineSeconds:3#^
  podFailurePolicy:11.batchv1.PodFailurePolicy^ successPolicy:16.batchv1.SuccessPolicy^
  backoffLimit:7#^ backoffLimitPerIndex:12#^ maxFailedIndexes:13#^
  selector:4.metav1.LabelSelector^ manualSelector:5?^ template:6.corev1.PodTemplateSpec^
  ttlSecondsAfterFinished:8#^ completionMode:9^ suspend:10?^ podReplacementPolicy:14^
  managedBy:15^
batchv1.PodFailurePolicy rules:1*.batchv1.PodFailurePolicyRule^
batchv1.PodFailurePolicyRule action:1^
  onExitCodes:2.batchv1.PodFailurePolicyOnExitCodesRequirement^
  onPodConditions:3*.batchv1.PodFailurePolicyOnPodConditionsPattern
batchv1.PodFailurePolicyOnExitCodesRequirement containerName:1^ operator:2^ values:3*#^
batchv1.PodFailurePolicyOnPodConditionsPattern type:1^ status:2^
batchv1.SuccessPolicy rules:1*.batchv1.SuccessPolicyRule^
batchv1.SuccessPolicyRule succeededIndexes:1^ succeededCount:2#^
batchv1.JobStatus conditions:1*.batchv1.JobCondition startTime:2.metav1.Time^
  completionTime:3.metav1.Time^ active:4# succeeded:5# failed:6# terminating:11#^
  completedIndexes:7 failedIndexes:10^ uncountedTerminatedPods:8.batchv1.UncountedTerminatedPods^
  ready:9#^
batchv1.JobCondition type:1^ status:2^ lastProbeTime:3.metav1.Time
  lastTransitionTime:4.metav1.Time reason:5 message:6
batchv1.UncountedTerminatedPods succeeded:1* failed:2*
batchv1.CronJob metadata:1.metav1.ObjectMeta spec:2.batchv1.CronJobSpec
  status:3.batchv1.CronJobStatus
batchv1.CronJobSpec schedule:1^ timeZone:8^ startingDeadlineSeconds:2#^ concurrencyPolicy:3
  suspend:4?^ jobTemplate:5.batchv1.JobTemplateSpec^ successfulJobsHistoryLimit:6#^
  failedJobsHistoryLimit:7#^
batchv1.JobTemplateSpec metadata:1.metav1.ObjectMeta spec:2.batchv1.JobSpec
batchv1.CronJobStatus active:1*.corev1.ObjectReference lastScheduleTime:4.metav1.Time^
  lastSuccessfulTime:5.metav1.Time^
rbacv1.Role metadata:1.metav1.ObjectMeta rules:2*.rbacv1.PolicyRule^
rbacv1.PolicyRule verbs:1*^ apiGroups:2* resources:3* resourceNames:4* nonResourceURLs:5*
rbacv1.ClusterRole metadata:1.metav1.ObjectMeta rules:2*.rbacv1.PolicyRule^
  aggregationRule:3.rbacv1.AggregationRule^
rbacv1.AggregationRule clusterRoleSelectors:1*.metav1.LabelSelector
rbacv1.RoleBinding metadata:1.metav1.ObjectMeta subjects:2*.rbacv1.Subject
  roleRef:3.rbacv1.RoleRef^
rbacv1.Subject kind:1^ apiGroup:2 name:3^ namespace:4
rbacv1.RoleRef apiGroup:1^ kind:2^ name:3^
rbacv1.ClusterRoleBinding metadata:1.metav1.ObjectMeta subjects:2*.rbacv1.Subject
  roleRef:3.rbacv1.RoleRef^
policyv1.PodDisruptionBudget metadata:1.metav1.ObjectMeta
  spec:2.policyv1.PodDisruptionBudgetSpec status:3.policyv1.PodDisruptionBudgetStatus
policyv1.PodDisruptionBudgetSpec minAvailable:1.IntOrString^ selector:2.metav1.LabelSelector^
  maxUnavailable:3.IntOrString^ unhealthyPodEvictionPolicy:4^
policyv1.PodDisruptionBudgetStatus observedGeneration:1# disruptedPods:2%.metav1.Time
  disruptionsAllowed:3#^ currentHealthy:4#^ desiredHealthy:5#^ expectedPods:6#^
  conditions:7*.metav1.Condition
policyv1.Eviction metadata:1.metav1.ObjectMeta deleteOptions:2.metav1.DeleteOptions^
schedulingv1.PriorityClass metadata:1.metav1.ObjectMeta value:2#^ globalDefault:3? description:4
  preemptionPolicy:5^
coordinationv1.Lease metadata:1.metav1.ObjectMeta spec:2.coordinationv1.LeaseSpec
coordinationv1.LeaseSpec holderIdentity:1^ leaseDurationSeconds:2#^
  acquireTime:3.metav1.MicroTime^ renewTime:4.metav1.MicroTime^ leaseTransitions:5#^ strategy:6^
  preferredHolder:7^
authenticationv1.TokenRequest metadata:1.metav1.ObjectMeta
  spec:2.authenticationv1.TokenRequestSpec^ status:3.authenticationv1.TokenRequestStatus
authenticationv1.TokenRequestSpec audiences:1*^ expirationSeconds:4#^
  boundObjectRef:3.authenticationv1.BoundObjectReference^
authenticationv1.BoundObjectReference kind:1 apiVersion:2 name:3 uid:4
authenticationv1.TokenRequestStatus token:1^ expirationTimestamp:2.metav1.Time^
authenticationv1.TokenReview metadata:1.metav1.ObjectMeta
  spec:2.authenticationv1.TokenReviewSpec^ status:3.authenticationv1.TokenReviewStatus
authenticationv1.TokenReviewSpec token:1 audiences:2*
authenticationv1.TokenReviewStatus authenticated:1? user:2.authenticationv1.UserInfo
  audiences:4* error:3
authenticationv1.UserInfo username:1 uid:2 groups:3* extra:4%.ExtraValue
authenticationv1.SelfSubjectReview metadata:1.metav1.ObjectMeta
  status:2.authenticationv1.SelfSubjectReviewStatus
authenticationv1.SelfSubjectReviewStatus userInfo:1.authenticationv1.UserInfo
authorizationv1.SubjectAccessReview metadata:1.metav1.ObjectMeta
  spec:2.authorizationv1.SubjectAccessReviewSpec^
  status:3.authorizationv1.SubjectAccessReviewStatus
authorizationv1.SubjectAccessReviewSpec resourceAttributes:1.authorizationv1.ResourceAttributes^
  nonResourceAttributes:2.authorizationv1.NonResourceAttributes^ user:3 groups:4*
  extra:5%.ExtraValue uid:6
authorizationv1.ResourceAttributes namespace:1 verb:2 group:3 version:4 resource:5 subresource:6
  name:7 fieldSelector:8.authorizationv1.FieldSelectorAttributes^
  labelSelector:9.authorizationv1.LabelSelectorAttributes^
authorizationv1.FieldSelectorAttributes rawSelector:1
  requirements:2*.metav1.FieldSelectorRequirement
metav1.FieldSelectorRequirement key:1^ operator:2^ values:3*
authorizationv1.LabelSelectorAttributes rawSelector:1
  requirements:2*.metav1.LabelSelectorRequirement
authorizationv1.NonResourceAttributes path:1 verb:2
authorizationv1.SubjectAccessReviewStatus allowed:1?^ denied:4? reason:2 evaluationError:3
authorizationv1.LocalSubjectAccessReview metadata:1.metav1.ObjectMeta
  spec:2.authorizationv1.SubjectAccessReviewSpec^
  status:3.authorizationv1.SubjectAccessReviewStatus
authorizationv1.SelfSubjectAccessReview metadata:1.metav1.ObjectMeta
  spec:2.authorizationv1.SelfSubjectAccessReviewSpec^
  status:3.authorizationv1.SubjectAccessReviewStatus
authorizationv1.SelfSubjectAccessReviewSpec
  resourceAttributes:1.authorizationv1.ResourceAttributes^
  nonResourceAttributes:2.authorizationv1.NonResourceAttributes^
authorizationv1.SelfSubjectRulesReview metadata:1.metav1.ObjectMeta
  spec:2.authorizationv1.SelfSubjectRulesReviewSpec^
  status:3.authorizationv1.SubjectRulesReviewStatus
authorizationv1.SelfSubjectRulesReviewSpec namespace:1
authorizationv1.SubjectRulesReviewStatus resourceRules:1*.authorizationv1.ResourceRule^
  nonResourceRules:2*.authorizationv1.NonResourceRule^ incomplete:3?^ evaluationError:4
authorizationv1.ResourceRule verbs:1*^ apiGroups:2* resources:3* resourceNames:4*
authorizationv1.NonResourceRule verbs:1*^ nonResourceURLs:2*
autoscalingv1.Scale metadata:1.metav1.ObjectMeta spec:2.autoscalingv1.ScaleSpec
  status:3.autoscalingv1.ScaleStatus
autoscalingv1.ScaleSpec replicas:1#
autoscalingv1.ScaleStatus replicas:1#^ selector:2
"""
