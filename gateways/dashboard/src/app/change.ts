import { type UseMutationResult, useMutation } from "@tanstack/react-query";
import { isProblem } from "../api/problem";
import { askForProof } from "./Proof";

/** A change of something: asks for a fresh proof where the server does, and tries again with it.
 *
 * @param change makes it.
 * @param onDone is given its answer.
 */
export function useChange<Input = void, Result = unknown>(
  change: (input: Input) => Promise<Result>,
  onDone?: (result: Result, input: Input) => unknown,
): UseMutationResult<Result, Error, Input> {
  return useMutation<Result, Error, Input>({
    mutationFn: async (input) => {
      for (;;) {
        try {
          return await change(input);
        } catch (error) {
          if (!isProblem(error, "fresh_proof_needed") || !(await askForProof())) throw error;
        }
      }
    },
    onSuccess: (result, input) => {
      void onDone?.(result, input);
    },
  });
}
