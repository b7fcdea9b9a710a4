import { CfnElement, CfnOutput, DefaultStackSynthesizer, Stack, type StackProps } from 'aws-cdk-lib';
import type { Construct } from 'constructs';

import { Alarms } from './alarms.js';
import { Api } from './api.js';
import { Dashboard } from './dashboard.js';
import { Functions } from './functions.js';
import { Parameters } from './parameters.js';
import { Queues } from './queues.js';
import { State } from './state.js';

export interface SlipwayStackProps extends StackProps {
  /** The folder that `cargo xtask package` fills. */
  readonly artifacts: string;
}

/** The control plane: the same resources, under the same logical ids, as in `infra/template.yaml`. */
export class SlipwayStack extends Stack {
  constructor(scope: Construct, id: string, props: SlipwayStackProps) {
    super(scope, id, {
      description: 'Slipway, a control plane that deploys use cases onto Kubernetes clusters.',
      synthesizer: new DefaultStackSynthesizer({ generateBootstrapVersionRule: false }),
      ...props,
    });
    const parameters = new Parameters(this);
    const state = new State(this, parameters);
    const queues = new Queues(this, state.key);
    const functions = new Functions(this, { parameters, state, queues, artifacts: props.artifacts });
    const api = new Api(this, { parameters, key: state.key, functions });
    new Alarms(this, { parameters, state, queues, functions, api });
    new Dashboard(this, { state, queues, functions, api });
    this.output('ApiUrl', 'What SLIPWAY_URL is.', api.url);
    this.output('DomainTarget', "What the domain's DNS record points to.", api.domainTarget).condition =
      parameters.hasDomain;
    this.output('TableName', 'The table of all state.', state.table.tableName);
    this.output('BucketName', 'The bucket of plans, charts and large answers.', state.bucket.bucketName);
    this.output('KeyArn', 'The key that encrypts all of it.', state.key.keyArn);
    for (const { id: name, logicalName, queue, deadLetters } of queues.all) {
      this.output(`${name}QueueUrl`, `The queue ${logicalName}.`, queue.queueUrl);
      this.output(`${name}DeadLettersUrl`, `Dead letters of ${logicalName}.`, deadLetters.queueUrl);
    }
  }

  /**
   * Ids as the SAM template has them, so that a stack of the one can be updated with the other: the path of a
   * construct without what CDK calls its resources, and without the groups of this app, which begin in lower case.
   */
  protected override allocateLogicalId(element: CfnElement): string {
    return element.node.path
      .split('/')
      .slice(1)
      .filter((part) => !/^[a-z]/.test(part) && part !== 'Resource' && part !== 'Default')
      .join('')
      .replaceAll(/[^A-Za-z0-9]/g, '');
  }

  private output(id: string, description: string, value: string): CfnOutput {
    return new CfnOutput(this, id, { description, value });
  }
}
