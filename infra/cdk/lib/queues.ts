import { Aws, Duration, Fn } from 'aws-cdk-lib';
import type * as kms from 'aws-cdk-lib/aws-kms';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';

/** The name of a queue, as the functions know it. */
export type QueueName =
  'plan-dag' | 'execute-step' | 'deploy-helm' | 'budpipelineEvents' | 'budusecasesEvents';

export interface QueuePair {
  /** What its logical ids begin with. */
  readonly id: string;
  readonly logicalName: QueueName;
  readonly queue: sqs.Queue;
  readonly deadLetters: sqs.Queue;
  /** Seconds from when a message is sent until somebody is told, a delay of up to 15 minutes included where there are any. */
  readonly longestWait: number;
}

/**
 * Standard queues throughout: the release's own item orders Helm work. A message is visible again only after six
 * time-outs of its consumer, but recovery does not wait for that: leases expire and the sweep finds them.
 */
export class Queues extends Construct {
  readonly all: readonly QueuePair[];

  constructor(
    scope: Construct,
    private readonly key: kms.IKey,
  ) {
    super(scope, 'queues');
    this.all = [
      this.pair('PlanDag', 'plan-dag', { consumerTimeout: 180, longestWait: 300 }),
      this.pair('ExecuteStep', 'execute-step', { consumerTimeout: 180, longestWait: 1200 }),
      this.pair('DeployHelm', 'deploy-helm', { consumerTimeout: 300, longestWait: 1200 }),
      this.pair('PipelineEvents', 'budpipelineEvents', { consumerTimeout: 180, longestWait: 300 }),
      this.pair('UseCaseEvents', 'budusecasesEvents', { consumerTimeout: 180, longestWait: 300 }),
    ];
  }

  get(name: QueueName): QueuePair {
    const found = this.all.find((pair) => pair.logicalName === name);
    if (found === undefined) {
      throw new Error(`there is no queue ${name}`);
    }
    return found;
  }

  /** A JSON object from each queue's name to the URL that `url` picks, with `more` members. */
  urls(url: (pair: QueuePair) => string, more = ''): string {
    const members = this.all.map((pair) => `"${pair.logicalName}":"${url(pair)}"`);
    return Fn.join('', [`{${members.join(',')}`, more, '}']);
  }

  private pair(
    id: string,
    logicalName: QueueName,
    times: { readonly consumerTimeout: number; readonly longestWait: number },
  ): QueuePair {
    const scope = new Construct(this, id);
    const name = `${Aws.STACK_NAME}-${logicalName}`;
    const arn = `arn:${Aws.PARTITION}:sqs:${Aws.REGION}:${Aws.ACCOUNT_ID}:${name}`;
    const common = {
      encryption: sqs.QueueEncryption.KMS,
      encryptionMasterKey: this.key,
      dataKeyReuse: Duration.hours(1),
      enforceSSL: true,
    };
    const deadLetters = new sqs.Queue(scope, 'DeadLetters', {
      ...common,
      queueName: `${name}-dead-letters`,
      retentionPeriod: Duration.days(14),
      redriveAllowPolicy: {
        sourceQueues: [sqs.Queue.fromQueueArn(scope, 'Source', arn)],
      },
    });
    const queue = new sqs.Queue(scope, 'Queue', {
      ...common,
      queueName: name,
      visibilityTimeout: Duration.seconds(6 * times.consumerTimeout),
      retentionPeriod: Duration.days(4),
      receiveMessageWaitTime: Duration.seconds(20),
      deadLetterQueue: { queue: deadLetters, maxReceiveCount: 10 },
    });
    return { id, logicalName, queue, deadLetters, longestWait: times.longestWait };
  }
}
