import { Aws, Fn, type CfnCondition, type IResolvable } from 'aws-cdk-lib';
import type * as logs from 'aws-cdk-lib/aws-logs';

import type { Parameters } from './parameters.js';
import type { QueueName, Queues } from './queues.js';
import type { State } from './state.js';

/** What a function may do beyond what every one may: written per function, so that none has more than it uses. */
export interface Permissions {
  /** Indexes of the table that it queries. */
  readonly indexes?: readonly ('due' | 'list')[];
  /** Queues that it sends to. */
  readonly sends?: readonly QueueName[];
  /** The queue that it consumes; what it cannot do goes to that queue's dead letters. */
  readonly consumes?: QueueName;
  /** What it does with dead letters of all queues. */
  readonly deadLetters?: readonly string[];
  /** Which secrets, as `<tenant>/<name>`, and what it does with them. */
  readonly secrets?: { readonly actions: readonly string[]; readonly names: readonly string[] };
  /** Which blobs, as `<tenant>/<path>` or by their kind, and what it does with them. */
  readonly blobs?: { readonly actions: readonly string[]; readonly paths: readonly string[] };
  /** Whether it takes away what a deleted deployment leaves among secrets and blobs. */
  readonly forgets?: boolean;
  /** Whether it never deletes items of the table. */
  readonly keepsItems?: boolean;
  /** Whether it publishes to SNS topics. */
  readonly publishes?: boolean;
  /** Whether it reaches clusters. */
  readonly connects?: boolean;
}

const FORGOTTEN_SECRETS = '*/deployment/*';
const FORGOTTEN_BLOBS = '*/deployments/*';

interface Surroundings {
  readonly parameters: Parameters;
  readonly state: State;
  readonly queues: Queues;
  readonly logGroup: logs.ILogGroup;
}

type Statement = Record<string, unknown> | IResolvable;

/** The statements of one function's role. */
export function statements(may: Permissions, around: Surroundings): Statement[] {
  const { parameters, state } = around;
  return [
    ...ofTable(may, state),
    ...ofQueues(may, around.queues),
    ...ofSecrets(may),
    ...ofBlobs(may, state),
    ...(may.forgets === true ? ofTheForgotten(state) : []),
    allow(
      'EncryptedData',
      ['kms:Decrypt', 'kms:DescribeKey', 'kms:Encrypt', 'kms:GenerateDataKey'],
      state.key.keyArn,
      {
        StringEquals: {
          'kms:ViaService': ['dynamodb', 's3', 'secretsmanager', 'sqs'].map(
            (service) => `${service}.${Aws.REGION}.amazonaws.com`,
          ),
        },
      },
    ),
    ...(may.publishes === true
      ? [when(parameters.hasTopics, allow('Topics', 'sns:Publish', parameters.topicArns.valueAsList))]
      : []),
    ...(may.connects === true ? ofClusters(parameters) : []),
    allow('Logs', ['logs:CreateLogStream', 'logs:PutLogEvents'], around.logGroup.logGroupArn),
    // X-Ray has no resources for these.
    allow('Traces', ['xray:PutTelemetryRecords', 'xray:PutTraceSegments'], '*'),
  ];
}

/** What stands in the statements for more than one resource, as cdk-nag names it, and why. */
export function wildcards(may: Permissions): { readonly id: string; readonly reason: string }[] {
  const finding = (resource: string): string => `AwsSolutions-IAM5[Resource::${resource}]`;
  const forgets = may.forgets === true;
  const paths = new Set([...(may.blobs?.paths ?? []), ...(forgets ? [FORGOTTEN_BLOBS] : [])]);
  const names = new Set([...(may.secrets?.names ?? []), ...(forgets ? [FORGOTTEN_SECRETS] : [])]);
  const secrets =
    'arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:<AWS::StackName>';
  return [
    {
      id: finding('*'),
      reason:
        may.connects === true
          ? 'X-Ray has no resources, and network interfaces none that could be named before they exist.'
          : 'X-Ray has no resources.',
    },
    ...[...paths].map((path) => ({
      id: finding(`<Bucket.Arn>/${path}`),
      reason: 'The path of a blob begins with the tenant or ends with an id, neither of which is known here.',
    })),
    ...[...names].map((name) => ({
      id: finding(`${secrets}/${name}`),
      reason: 'The name of a secret begins with the tenant, which is not known here, and ends as AWS likes.',
    })),
  ];
}

function ofTable(may: Permissions, state: State): Statement[] {
  const indexes = (may.indexes ?? []).map((index) => `${state.table.tableArn}/index/${index}`);
  const actions = [
    // Lists are read from the index, and then item by item.
    ...(may.indexes?.includes('list') === true ? ['BatchGetItem'] : []),
    ...(may.keepsItems === true ? [] : ['DeleteItem']),
    'DescribeTable',
    'GetItem',
    'PutItem',
    'Query',
    'UpdateItem',
  ];
  return [
    allow(
      'Table',
      actions.map((action) => `dynamodb:${action}`),
      state.table.tableArn,
    ),
    ...(may.indexes === undefined ? [] : [allow('Indexes', 'dynamodb:Query', indexes)]),
  ];
}

function ofQueues(may: Permissions, queues: Queues): Statement[] {
  const found: Statement[] = [];
  const own = may.consumes === undefined ? undefined : queues.get(may.consumes);
  const targets = [
    ...(may.sends ?? []).map((name) => queues.get(name).queue.queueArn),
    ...(own === undefined ? [] : [own.deadLetters.queueArn]),
  ];
  if (targets.length > 0) {
    found.push(allow('Send', ['sqs:GetQueueAttributes', 'sqs:SendMessage'], targets));
  }
  if (own !== undefined) {
    const actions = ['ChangeMessageVisibility', 'DeleteMessage', 'GetQueueAttributes', 'ReceiveMessage'];
    found.push(
      allow(
        'Receive',
        actions.map((action) => `sqs:${action}`),
        own.queue.queueArn,
      ),
    );
  }
  if (may.deadLetters !== undefined) {
    const all = queues.all.map((pair) => pair.deadLetters.queueArn);
    found.push(allow('DeadLetters', may.deadLetters, all));
  }
  return found;
}

function ofSecrets({ secrets }: Permissions): Statement[] {
  if (secrets === undefined) {
    return [];
  }
  return [allow('Secrets', secrets.actions, secrets.names.map(secretArn))];
}

function secretArn(name: string): string {
  return `arn:${Aws.PARTITION}:secretsmanager:${Aws.REGION}:${Aws.ACCOUNT_ID}:secret:${Aws.STACK_NAME}/${name}`;
}

function ofTheForgotten({ bucket }: State): Statement[] {
  return [
    allow('ForgottenSecrets', 'secretsmanager:DeleteSecret', secretArn(FORGOTTEN_SECRETS)),
    allow('ForgottenBlobs', 's3:DeleteObject', `${bucket.bucketArn}/${FORGOTTEN_BLOBS}`),
  ];
}

function ofBlobs({ blobs }: Permissions, { bucket }: State): Statement[] {
  if (blobs === undefined) {
    return [];
  }
  const paths = blobs.paths.map((path) => `${bucket.bucketArn}/${path}`);
  const found = [allow('Blobs', blobs.actions, paths)];
  if (blobs.actions.includes('s3:GetObject')) {
    // Without it S3 says of an object that is absent that it is forbidden.
    found.push(allow('AbsentBlobs', 's3:ListBucket', bucket.bucketArn));
  }
  return found;
}

function ofClusters(parameters: Parameters): Statement[] {
  const interfaces = [
    'ec2:AssignPrivateIpAddresses',
    'ec2:CreateNetworkInterface',
    'ec2:DeleteNetworkInterface',
    'ec2:DescribeNetworkInterfaces',
    'ec2:DescribeSubnets',
    'ec2:UnassignPrivateIpAddresses',
  ];
  return [
    when(
      parameters.hasClusters,
      allow('Clusters', 'eks:DescribeCluster', parameters.clusterArns.valueAsList),
    ),
    when(
      parameters.hasClusterRoles,
      allow('ClusterRoles', 'sts:AssumeRole', parameters.clusterRoleArns.valueAsList),
    ),
    // These actions have no resources that could be named before the interfaces exist.
    when(parameters.hasVpc, allow('NetworkInterfaces', interfaces, '*')),
  ];
}

function allow(
  sid: string,
  action: string | readonly string[],
  resource: string | readonly string[],
  condition?: Record<string, unknown>,
): Record<string, unknown> {
  const statement = { Sid: sid, Effect: 'Allow', Action: action, Resource: resource };
  return condition === undefined ? statement : { ...statement, Condition: condition };
}

function when(condition: CfnCondition, statement: Record<string, unknown>): IResolvable {
  return Fn.conditionIf(condition.logicalId, statement, Aws.NO_VALUE);
}
